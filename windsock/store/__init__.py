"""The agent and its snapshot store.

The client sends the text of these modules to where the store is (`windsock.sync.bootstrap`). So
they import the standard library, each other and `windsock.json_lines`, and nothing else.

The names of files are bytes, whatever the locale there is; pathlib knows only text.
"""
