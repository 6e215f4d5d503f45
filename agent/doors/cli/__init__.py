"""The command line: Typer commands for what Python offers too."""
