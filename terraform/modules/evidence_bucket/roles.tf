# SPDX-License-Identifier: GPL-3.0-or-later
# Who may do what: the gateway writes, the auditor reads, the eraser deletes keys.

# --- the writer ---------------------------------------------------------------------------------

data "aws_iam_policy_document" "writer_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    dynamic "principals" {
      for_each = { Service = var.writer_principals.services, AWS = var.writer_principals.arns }

      content {
        type        = principals.key
        identifiers = principals.value
      }
    }
  }
}

data "aws_iam_policy_document" "writer" {
  statement {
    sid = "Put"
    actions = [
      "s3:GetObject", # the checksum of what was put
      "s3:GetObjectRetention",
      "s3:PutObject",
      "s3:PutObjectRetention",
    ]
    resources = ["${aws_s3_bucket.this["evidence"].arn}/*", "${aws_s3_bucket.this["keys"].arn}/*"]
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning"]
    resources = [aws_s3_bucket.this["evidence"].arn, aws_s3_bucket.this["keys"].arn]
  }

  # Whatever else a policy of the account gives: what was written stays.
  statement {
    sid    = "NeverDelete"
    effect = "Deny"
    actions = [
      "s3:BypassGovernanceRetention",
      "s3:DeleteBucket",
      "s3:DeleteBucketPolicy",
      "s3:DeleteObject",
      "s3:DeleteObjectVersion",
      "s3:PutBucketObjectLockConfiguration",
      "s3:PutBucketPolicy",
      "s3:PutBucketVersioning",
      "s3:PutLifecycleConfiguration",
    ]
    resources = flatten([
      for name in ["evidence", "keys"] : [aws_s3_bucket.this[name].arn, "${aws_s3_bucket.this[name].arn}/*"]
    ])
  }

  statement {
    sid       = "Encrypt"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.this.arn]
  }
}

resource "aws_iam_role" "writer" {
  name               = "${var.name}-writer"
  description        = "Trailgate ${var.name}: puts evidence and wrapped keys, deletes nothing"
  assume_role_policy = data.aws_iam_policy_document.writer_trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "writer" {
  name   = "write-evidence"
  role   = aws_iam_role.writer.id
  policy = data.aws_iam_policy_document.writer.json
}

resource "aws_iam_instance_profile" "writer" {
  name = "${var.name}-writer"
  role = aws_iam_role.writer.name
  tags = var.tags
}

# --- the auditor and the eraser -----------------------------------------------------------------

data "aws_iam_policy_document" "trust" {
  for_each = { for role, arns in { auditor = var.auditor_arns, eraser = var.eraser_arns } : role => arns if length(arns) > 0 }

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = each.value
    }
  }
}

data "aws_iam_policy_document" "auditor" {
  statement {
    sid       = "Read"
    actions   = ["s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention", "s3:GetObjectLegalHold"]
    resources = [for bucket in aws_s3_bucket.this : "${bucket.arn}/*"]
  }

  # Versions and delete markers too: a verdict that did not look at them would miss a deletion.
  statement {
    sid = "List"
    actions = [
      "s3:GetBucketObjectLockConfiguration",
      "s3:GetBucketVersioning",
      "s3:ListBucket",
      "s3:ListBucketVersions",
    ]
    resources = [for bucket in aws_s3_bucket.this : bucket.arn]
  }

  statement {
    sid       = "Decrypt"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.this.arn]
  }
}

data "aws_iam_policy_document" "eraser" {
  statement {
    sid       = "EraseKeys"
    actions   = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
    resources = ["${aws_s3_bucket.this["keys"].arn}/keys/*"]
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket", "s3:ListBucketVersions"]
    resources = [aws_s3_bucket.this["keys"].arn]
  }
}

locals {
  role_policies = {
    auditor = data.aws_iam_policy_document.auditor.json
    eraser  = data.aws_iam_policy_document.eraser.json
  }
}

resource "aws_iam_role" "reader" {
  for_each = data.aws_iam_policy_document.trust

  name               = "${var.name}-${each.key}"
  description        = "Trailgate ${var.name}: ${each.key == "auditor" ? "reads evidence, keys and lake" : "deletes wrapped keys whose lock is over"}"
  assume_role_policy = each.value.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "reader" {
  for_each = aws_iam_role.reader

  name   = each.key
  role   = each.value.id
  policy = local.role_policies[each.key]
}
