"""What sshd runs for the proxy, whatever was asked for: it validates, routes and copies bytes."""
