-- unsound: town: foreign keys cannot be checked: foreign key mismatch - "town" referencing "country"
CREATE TABLE country (id INTEGER, code TEXT);
CREATE TABLE town (name TEXT, country TEXT REFERENCES country (code));
INSERT INTO country VALUES (1, 'mx');
INSERT INTO town VALUES ('Tula', 'mx');
