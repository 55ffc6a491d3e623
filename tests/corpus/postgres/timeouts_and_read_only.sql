-- Timeouts of the database and of the role that dumps it, and a database that is read-only by default.
-- as app
CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i;
-- as superuser
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''100ms''', current_database());
  EXECUTE format('ALTER DATABASE %I SET idle_in_transaction_session_timeout = ''100ms''', current_database());
  EXECUTE format('ALTER DATABASE %I SET idle_session_timeout = ''500ms''', current_database());
  EXECUTE format('ALTER ROLE app IN DATABASE %I SET lock_timeout = ''10ms''', current_database());
  EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
END $$;
