"""What brings an environment up on one machine: pinned tools (`setup.sh`, `run`) and the Makefile's verbs."""
