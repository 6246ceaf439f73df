"""The one exception that is shown to the user as a single line."""


class UserError(Exception):
    """Something the user can mend: the message says in one line what is wrong and what to do.

    Command-line tools and nodes print it as ``error: <message>`` on stderr and exit with status 2.
    """
