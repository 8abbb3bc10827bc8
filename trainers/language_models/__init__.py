"""What every recipe that trains a causal language model shares: loading, chat templates, packing, the Trainer, generation."""
