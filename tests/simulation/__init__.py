"""A seeded simulation: servers on a database in memory, in virtual time, in schedules that chance avoids."""
