"""Pretrained models of others: fetched into a cache folder, and their files read without trust."""
