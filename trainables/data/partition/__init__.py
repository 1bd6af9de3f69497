"""Which image belongs to which split, and the images of the splits as arrays, without torch.

``pool`` reads what a search may see. ``test_images`` reads the others: only ``digests``, which keeps none of them, and
``test_openings``, which first writes down who asks, may import it.
"""
