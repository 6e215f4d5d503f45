"""How people and agents reach the loop: command line, MCP and tool schemas."""
