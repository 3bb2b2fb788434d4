"""Frontends: each turns a model into `hetc.ir.model.Model`; `open_model` picks the one that
fits."""
