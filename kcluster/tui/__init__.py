"""The screen of `kcluster top`: what a cluster does, while it does it.

    feeds     threads: the watch, commands, groups, the load; they post, and touch nothing else
    view      what is shown: the last snapshot, histories, events, cursor, filter, order
    panels    health, brokers, partitions, story, load, pages, menus: lines from a view
    picture   all panels in one picture of lines, for a size
    app       the only module that knows Textual: draws a picture's rows that changed, hears keys

Everything but `app` and `canvas` can be tested without a terminal.
"""
