"""Groups of commands whose unknown names are errors of hetc."""

from __future__ import annotations

import difflib

import click

from hetc.errors import UsageError


class Group(click.Group):
    """A group that keeps its commands in order and names the nearest one to an unknown name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.commands) or list(self.commands)
            raise UsageError(
                "HETC-U003",
                f"no such command: {name}",
                at=ctx.command_path,
                expected=", ".join(near),
                do=f"{ctx.command_path} --help lists all",
            )
        return super().resolve_command(ctx, args)
