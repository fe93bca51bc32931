"""sshd runs the relay for the proxy, whatever the proxy asks for: it validates, routes and copies bytes."""
