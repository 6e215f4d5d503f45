"""What an agent of any kind can call: the tools, their schemas, and who decides what."""
