"""What other programs' files and clients become here. Each folder is one program; none is needed to run a workflow."""
