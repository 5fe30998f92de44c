"""The names of other systems, on top of ours. Nothing here is imported by Greenroom itself."""
