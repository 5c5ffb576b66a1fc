"""The style sheet of the screen."""

CSS = """
Screen { background: $background; }
#title { height: 1; background: $panel; color: $foreground; }
#overview { height: 1; background: $surface; }
#findings-panel { height: auto; max-height: 6; background: $surface; }
#stalls-panel { height: auto; max-height: 6; background: $surface; display: none; }
#choices, #findings-panel {
    link-style: none; link-color: $text-muted; link-background-hover: $primary 40%;
    link-color-hover: $foreground; link-style-hover: none;
}
#choices { height: 1; background: $background; }
#message { height: 1fr; content-align: center middle; color: $text-muted; display: none; }
#tables { height: 1fr; }
#filter { display: none; height: 1; border: none; padding: 0 1; background: $panel; }
#filter:focus { border: none; }
Screen.is-filtering #filter { display: block; }
Screen.is-waiting #message { display: block; }
Screen.is-waiting #tables { display: none; }

Table {
    display: none; height: 1fr; background: $background; overflow-x: hidden;
    scrollbar-size-vertical: 1;
}
Table.is-shown { display: block; }
Table.is-first { height: auto; max-height: 60%; }
Table.is-second { margin-top: 1; }

.table--head { background: $panel; color: $text-muted; text-style: bold; }
.table--sorted { background: $panel; color: $text-accent; text-style: bold; }
.table--plain { color: $foreground; }
.table--label { color: $text-primary; }
.table--dim { color: $foreground 45%; }
.table--good { color: $text-success; }
.table--warn { color: $text-warning; }
.table--bad { color: $text-error; text-style: bold; }
.table--accent { color: $text-secondary; }
.table--cursor { background: $primary 30%; }

Help { align: center middle; background: $background 60%; }
Help > VerticalScroll {
    width: 90%; max-width: 110; height: 90%; background: $surface; border: round $primary;
    padding: 0 1; border-title-color: $text-primary;
}
Help Static { width: 1fr; height: auto; }
Footer { background: $panel; }
"""
