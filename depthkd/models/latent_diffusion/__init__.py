"""Depth by the UNet of a latent diffusion model."""
