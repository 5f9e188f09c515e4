"""What a configuration is, what it may be, and what it costs before anything is trained."""

from search_spaces.library_messages import filter_library_messages

filter_library_messages()  # before any module of this project imports peft
