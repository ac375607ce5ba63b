"""One attention layer decoded by several processes, with torch.distributed between them."""
