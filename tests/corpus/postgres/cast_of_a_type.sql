-- A cast has no owner of its own in an archive; only the type's owner may make it.
-- as app
CREATE TYPE meters AS (a int);
CREATE FUNCTION shown(meters) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1.a || '' m''';
CREATE CAST (meters AS text) WITH FUNCTION shown(meters);
CREATE TABLE t AS SELECT ROW(i)::meters AS m FROM generate_series(1, 100) i;
