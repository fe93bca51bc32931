CREATE TABLE user (
    id INTEGER NOT NULL,
    pseudonym VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    issuer VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    email VARCHAR NOT NULL,
    groups JSON NOT NULL,
    created DOUBLE NOT NULL,
    seen DOUBLE NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (issuer, subject),
    UNIQUE (pseudonym)
);

CREATE TABLE usage (
    id VARCHAR NOT NULL,
    time DOUBLE NOT NULL,
    user VARCHAR NOT NULL,
    key_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    cluster VARCHAR NOT NULL,
    instance VARCHAR NOT NULL,
    class VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    status INTEGER NOT NULL,
    code VARCHAR NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    measured BOOLEAN NOT NULL,
    wait DOUBLE NOT NULL,
    first_byte DOUBLE,
    duration DOUBLE NOT NULL,
    bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    PRIMARY KEY (id)
);

CREATE INDEX usage_by_user ON usage (user, time);

CREATE TABLE api_key (
    id VARCHAR NOT NULL,
    user_id INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    hint VARCHAR NOT NULL,
    secret_id VARCHAR NOT NULL,
    stored VARCHAR NOT NULL,
    created DOUBLE NOT NULL,
    expires DOUBLE NOT NULL,
    revoked DOUBLE,
    last_used DOUBLE,
    PRIMARY KEY (id),
    FOREIGN KEY(user_id) REFERENCES user (id),
    UNIQUE (stored)
);

CREATE INDEX ix_api_key_user_id ON api_key (user_id);

CREATE TABLE page_bearer (
    id VARCHAR NOT NULL,
    user_id INTEGER NOT NULL,
    session_tag VARCHAR NOT NULL,
    secret_id VARCHAR NOT NULL,
    stored VARCHAR NOT NULL,
    created DOUBLE NOT NULL,
    expires DOUBLE NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(user_id) REFERENCES user (id),
    UNIQUE (stored)
);

CREATE INDEX ix_page_bearer_expires ON page_bearer (expires);

CREATE INDEX ix_page_bearer_session_tag ON page_bearer (session_tag);
