"""Questions to LLMs and VLMs behind OpenAI-compatible endpoints, and how little is trusted."""
