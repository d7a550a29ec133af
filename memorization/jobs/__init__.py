"""What run a configuration stands for, and how it is made or found."""
