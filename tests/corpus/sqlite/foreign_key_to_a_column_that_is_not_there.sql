-- unsound: town: foreign keys cannot be checked: foreign key mismatch - "town" referencing "country"
-- unsound: river: breaks a foreign key to country
CREATE TABLE country (id INTEGER PRIMARY KEY, code TEXT);
CREATE TABLE town (name TEXT, country TEXT REFERENCES country (no_such_column));
CREATE TABLE river (name TEXT, country INTEGER REFERENCES country);
INSERT INTO country VALUES (1, 'mx');
INSERT INTO town VALUES ('Tula', 'mx');
INSERT INTO river VALUES ('Balsas', 1), ('Tula', 9);
