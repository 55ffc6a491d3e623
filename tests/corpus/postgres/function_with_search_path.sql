-- The same with the path that mends it.
-- as app
CREATE FUNCTION fold(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)';
CREATE FUNCTION handle(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = public
  AS 'BEGIN RETURN fold(t); END';
CREATE TABLE people (name text, h text GENERATED ALWAYS AS (handle(name)) STORED);
INSERT INTO people (name) VALUES ('Zoé'), ('Ñandú');
CREATE INDEX by_handle ON people (handle(name));
