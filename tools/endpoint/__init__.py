"""Questions to LLMs and VLMs behind OpenAI-compatible endpoints, whose replies are untrusted."""
