-- The database's own settings: lists, quotes, and options of a role here.
-- as superuser
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET timezone = ''America/Mexico_City''', current_database());
  EXECUTE format('ALTER DATABASE %I SET search_path = "$user", public, "odd, path"', current_database());
  EXECUTE format('ALTER ROLE reporting IN DATABASE %I SET work_mem = ''5MB''', current_database());
  EXECUTE format('ALTER DATABASE %I SET my.setting = ''it''''s''', current_database());
END $$;
-- as app
CREATE TABLE public.t AS SELECT timestamptz '2026-01-01 00:00:00-06' AS at;
