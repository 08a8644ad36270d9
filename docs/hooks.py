"""What the build of the documentation adds to MkDocs."""
