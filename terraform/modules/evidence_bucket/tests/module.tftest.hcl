# SPDX-License-Identifier: GPL-3.0-or-later
# What the module plans, by a mocked cloud: `terraform init && terraform test` in the module's folder.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  name = "acme-trailgate"
}

run "by_default_nobody_can_shorten_the_lock" {
  command = plan

  assert {
    condition     = aws_s3_bucket_object_lock_configuration.this["evidence"].rule[0].default_retention[0].mode == "COMPLIANCE"
    error_message = "evidence must be locked under COMPLIANCE"
  }
  assert {
    condition     = aws_s3_bucket_object_lock_configuration.this["keys"].rule[0].default_retention[0].days == 7
    error_message = "keys must have a short lock of their own"
  }
  assert {
    condition     = !contains(keys(aws_s3_bucket_object_lock_configuration.this), "lake")
    error_message = "the lake is rebuilt from the evidence: it has no lock"
  }
  assert {
    condition     = alltrue([for block in aws_s3_bucket_public_access_block.this : block.block_public_policy && block.restrict_public_buckets])
    error_message = "public access must be blocked on every bucket"
  }
  assert {
    condition     = length(aws_iam_role.reader) == 0
    error_message = "a role that nobody may take must not be made"
  }
}

run "role_vars_are_the_roles_variables" {
  command = plan

  assert {
    condition = output.role_vars == {
      trailgate_evidence_to     = "s3://acme-trailgate-evidence"
      trailgate_evidence_keys   = "s3://acme-trailgate-keys"
      trailgate_evidence_region = "eu-central-1"
    }
    error_message = "role_vars must be the addresses of the buckets"
  }
}

run "an_auditor_has_a_role" {
  command = plan

  variables {
    auditor_arns = ["arn:aws:iam::210987654321:root"]
  }

  assert {
    condition     = keys(aws_iam_role.reader) == ["auditor"]
    error_message = "an auditor that is named must have a role, and nobody else"
  }
}

run "a_bad_name_is_refused" {
  command = plan

  variables {
    name = "Acme_Trailgate"
  }

  expect_failures = [var.name]
}

run "a_bad_lock_is_refused" {
  command = plan

  variables {
    evidence_lock = { mode = "FOREVER" }
  }

  expect_failures = [var.evidence_lock]
}

run "a_lock_of_no_days_is_refused" {
  command = plan

  variables {
    evidence_lock = { days = 0 }
  }

  expect_failures = [var.evidence_lock]
}

run "keys_outlive_no_evidence" {
  command = plan

  variables {
    evidence_lock  = { days = 10 }
    keys_lock_days = 30
  }

  expect_failures = [var.keys_lock_days]
}

run "a_wildcard_lets_in_nobody" {
  command = plan

  variables {
    auditor_arns      = ["*"]
    eraser_arns       = ["*"]
    writer_principals = { arns = ["*"] }
  }

  expect_failures = [var.auditor_arns, var.eraser_arns, var.writer_principals]
}

run "a_lake_that_expires_before_it_moves_is_refused" {
  command = plan

  variables {
    lake_days = { infrequent_access = 60, expire = 30 }
  }

  expect_failures = [var.lake_days]
}
