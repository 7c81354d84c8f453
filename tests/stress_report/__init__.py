"""What the reader of recorded stress tests is made of, in the order in which data flows.

Each room imports only rooms above it, and of the instrument only what it offers in __all__.
"""

ROOMS = (
    "findings",  # the nouns: Note, Criterion, Level, Ramp; text of unknown origin made plain
    "legacy",  # lines of older formats turned into the present one
    "foreign",  # recordings of other tools turned into rows of the CSV
    "recording",  # a recorded run from its files
    "memory",  # what the record says of memory
    "machine",  # ... of memory that no watched process holds, and of containers
    "hosts",  # hosts that were watched for themselves, joined with the run
    "hourly",  # growth per hour of a recording without tasks
    "concurrency",  # what the record says of load
    "diagnosis",  # which kind of memory grew; threads and files that rise
    "judging",  # criteria and verdict: a run and all that is derived from it
    "comparison",  # two runs
    "words",  # every word in both languages: data
    "saying",  # findings in words: headline, sentences, what to do next
    "charts",  # the only user of matplotlib
    "markdown",  # the report, the only room that knows markdown
    "terminal",  # one screen, the only user of rich
    "summary",  # --json
)
