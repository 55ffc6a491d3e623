-- Domains, composite and range types, arrays of them, enums in arrays, oids, xml, nondeterministic collation, unlogged.
-- as app
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE mood AS ENUM ('sad', 'glad');
-- as app
ALTER TYPE mood ADD VALUE 'so so' BEFORE 'glad';
-- as app
CREATE TYPE pair AS (a positive, b mood);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE UNLOGGED TABLE every (
  p positive, m mood[], c pair, cs pair[], s span, o oid, r regclass, x xml, j json, jb jsonb, t text COLLATE nocase,
  b bytea, i interval, d numeric, f float4, bits bit varying(9), pt point, ts tsvector, tz timestamptz, mo money
);
INSERT INTO every VALUES (1, '{sad,glad}', (2, 'so so'), ARRAY[(3, 'sad')::pair, NULL], '[1,2)', 42, 'every', '<a/>',
  '{"a" : 1}', '{"b": 2}', 'Ä', '\x00ff', '1 mon -2 days', 'NaN', 'Infinity', '101', '(1,2)', 'a b', '2026-01-01 UTC', 1);
INSERT INTO every DEFAULT VALUES;
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE reserved (like every);
