"""The DPT family: a backbone, a neck and a head that fuses its maps."""
