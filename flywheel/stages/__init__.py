"""The stages, one a file: functions from artifacts to artifacts. Only the loop records what they made."""
