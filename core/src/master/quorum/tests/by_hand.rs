//! What one master makes of single messages, disks and commands.
