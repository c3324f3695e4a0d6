<?php
// SPDX-License-Identifier: GPL-3.0-or-later
// The settings of SimpleSAMLphp as an identity provider on loopback: each of its files includes this.
// People and service providers are read from files beside it, so that a test can change them.
$folder = getenv('SAML_PROVIDER_FOLDER');
$url = getenv('SAML_PROVIDER_URL');
$email = 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress';
switch (basename($including)) {
    case 'config.php':
        $config = [
            'baseurlpath' => "$url/",
            'certdir' => "$folder/",
            'loggingdir' => "$folder/",
            'logging.handler' => 'file',
            'logging.level' => 7,
            'logging.logfile' => 'saml.log',
            'datadir' => "$folder/",
            'tempdir' => "$folder/tmp",
            'metadatadir' => "$folder/metadata",
            'metadata.sources' => [['type' => 'flatfile']],
            'technicalcontact_email' => 'na@example.org',
            'secretsalt' => getenv('SAML_PROVIDER_SALT'),
            'auth.adminpassword' => getenv('SAML_PROVIDER_SALT'),
            'timezone' => 'UTC',
            'enable.saml20-idp' => true,
            'store.type' => 'phpsession',
            'session.phpsession.savepath' => "$folder/tmp",
            'session.phpsession.cookiename' => 'IdpSession',
            'session.cookie.secure' => false,
            'language.default' => 'en',
            'theme.use' => 'default',
            'module.enable' => ['exampleauth' => true, 'core' => true, 'saml' => true],
            'production' => true,
            'errorreporting' => false,
        ];
        break;
    case 'authsources.php':
        $people = json_decode(file_get_contents("$folder/people.json"), true);
        $config = [
            'admin' => ['core:AdminPassword'],
            'people' => array_merge(['exampleauth:UserPass'], $people),
        ];
        break;
    case 'saml20-idp-hosted.php':
        $metadata["$url/idp"] = [
            'host' => '__DEFAULT__',
            'privatekey' => 'idp.key',
            'certificate' => 'idp.crt',
            'auth' => 'people',
            'NameIDFormat' => $email,
            'saml20.sign.response' => getenv('SAML_PROVIDER_SIGNS') === 'response',
            'saml20.sign.assertion' => getenv('SAML_PROVIDER_SIGNS') !== 'response',
            'authproc' => [
                1 => ['class' => 'saml:AttributeNameID', 'attribute' => 'mail', 'Format' => $email],
            ],
        ];
        break;
    case 'saml20-sp-remote.php':
        $known = json_decode(file_get_contents("$folder/sp.json"), true);
        foreach ($known as $id => $provider) {
            $metadata[$id] = $provider;
        }
        break;
}
