"""What can be said of saga classes and stored sagas without running them: pure functions."""
