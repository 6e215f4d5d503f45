"""promptprobe for agents: an MCP server on the official SDK, over stdio and HTTP."""
