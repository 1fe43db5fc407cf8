//! What one master makes of single messages and disks.
