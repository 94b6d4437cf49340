"""The report: effects, judgements, answers and latents -> one HTML page that opens from disk. Pure: no IO but its own templates."""
