"""Keep a folder and a snapshot store equal, over any byte stream."""
