"""`promptprobe judges`: lists the judges that can be named, from the table in the code."""

from __future__ import annotations

import typer

from promptprobe.agent.doors import options as o

app = typer.Typer()


@app.command(epilog=o.examples("judges", "judges --json"))
def judges(json: o.Json = False) -> int:
    """List the judges that --scorer and --judge take: what each sees, its range and licence."""

    def work() -> int:
        from promptprobe.tools.scorers import scorer

        found = scorer.judges()
        if json:
            rows = [{**one.model_dump(exclude={"opens"}), "direction": "higher"} for one in found]
            o.print_json({"judges": rows})
            return o.DONE
        for one in found:
            o.print_line(one.name)
            words = ", word by word too" if one.words else ""
            o.print_line(f"    {one.sees}{words}")
            o.print_line(f"    {one.range}; higher is better; licence: {one.licence}")
            if one.citation:
                o.print_line(f"    {one.citation}")
            if one.extra:
                o.print_line(f"    needs: pip install 'promptprobe[{one.extra}]'")
        return o.DONE

    return o.ended("judges", work, lambda: "Nothing was changed")
