"""Backends: each turns a half of a program into files that an executor runs."""
