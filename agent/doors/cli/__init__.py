"""The command line: Typer commands, each a door to what Python offers too."""
