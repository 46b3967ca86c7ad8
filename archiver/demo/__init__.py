"""What `archiver demo` is made of: real pages, stores and a Postgres of its own, a story.

Above `app`, beside nothing: no other command imports it. `show.py` tells the whole story.
"""
