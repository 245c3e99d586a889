-- What traffic and tests use, in MariaDB and in MySQL.
CREATE DATABASE shop;
CREATE TABLE shop.orders (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  number CHAR(36) NOT NULL UNIQUE,
  state VARCHAR(10) NOT NULL
);

-- The servers count by user: whose commands are the traffic's, and whose the tests'.
CREATE USER shop@'%' IDENTIFIED BY 'shop';
GRANT ALL ON shop.* TO shop@'%';
CREATE USER tester@'%' IDENTIFIED BY 'tester';
GRANT ALL ON shop.* TO tester@'%';
