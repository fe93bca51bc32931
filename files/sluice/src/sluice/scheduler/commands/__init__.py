"""`sluice scheduler | models | nodes | weights | status | doctor`: what people and launchers start.

The top room of the scheduler: nothing imports it but the command line and the Ansible modules.
"""
