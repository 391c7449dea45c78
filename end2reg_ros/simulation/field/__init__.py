"""The surgical field: bone under its film, wound, retractors, and what passes or stands around, as coloured surfaces."""
