"""What playbooks/validate.yml checks of an inventory. It runs on the controller and opens no connection."""
