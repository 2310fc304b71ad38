"""The one error that is shown to a user as a single line."""


class UserError(Exception):
    """Something the user can put right: a mistyped setting, a missing library, too little memory.

    The message is one line that names the setting, its value, what is allowed and what to do. The command line
    prints it without a traceback and exits with status 2.
    """
