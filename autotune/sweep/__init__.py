"""The sweep file: its schema, its short forms and its errors."""
