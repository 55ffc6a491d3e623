-- A generated column and an index call a function that calls another one by its bare name.
-- as app
CREATE FUNCTION fold(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)';
CREATE FUNCTION handle(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN fold(t); END';
CREATE TABLE people (name text, h text GENERATED ALWAYS AS (handle(name)) STORED);
CREATE TABLE others AS SELECT i FROM generate_series(1, 100) i;
INSERT INTO people (name) VALUES ('Zoé'), ('Ñandú');
CREATE INDEX by_handle ON people (handle(name));
